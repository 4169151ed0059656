"""glibc's allocator, set so that it does not swamp what is measured."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
KEPT_BYTES = 2**31 - 1
TOP_PAD_BYTES = 2**29


def keep_freed_memory() -> str:
    """Let malloc keep large freed blocks in place of mapping and unmapping them at every tensor.

    Page faults on fresh mappings cost a CPU network up to a third of its time.

    Returns:
        The state of the allocator, for the reports.
    """
    if platform.libc_ver()[0] != "glibc":
        return "the platform's own"
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, TOP_PAD_BYTES))
    results = [mallopt(option, value) for option, value in settings]
    return "glibc, keeps freed memory" if all(results) else "glibc, as it comes"
