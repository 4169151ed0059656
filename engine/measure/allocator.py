"""glibc's allocator, configured so that it does not distort what is measured."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
KEPT_BYTES = 2**31 - 1
TOP_PAD_BYTES = 2**29


def keep_freed_memory() -> str:
    """Let malloc keep large freed blocks instead of mapping and unmapping memory for every tensor.

    Page faults on fresh mappings cost a CPU network up to a third of its time.

    Returns:
        Description of the allocator's state, for the reports.
    """
    if platform.libc_ver()[0] != "glibc":
        return "the platform's own"
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, TOP_PAD_BYTES))
    results = [mallopt(option, value) for option, value in settings]
    return "glibc, keeps freed memory" if all(results) else "glibc, as it comes"
