"""One exception for what a user can mend."""


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it alone and exits with code 2.

    The message names the value received, the value needed and the fix:
    "mip 7 does not exist; the volume has mips 0 to 4; choose one of those".
    """
