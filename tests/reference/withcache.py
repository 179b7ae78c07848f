"""What programs of the reference import from `withcache`, as this tree has it. Its server is the
program `bty-web cache`."""

from bty import oras

server = None
__all__ = ["oras", "server"]
