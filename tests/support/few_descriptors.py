"""A program that may have few files and sockets open: python -m tests.support.few_descriptors COUNT MODULE ARGUMENT…"""

import resource
import runpy
import sys

if __name__ == "__main__":
    count = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    sys.argv[:] = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
