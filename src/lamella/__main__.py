from lamella.cli.main import main

main()
