"""What holds for all tests."""

import os

# As on the command line: threads that wait for each other actively slow down everything that runs beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
