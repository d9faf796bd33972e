"""Starts PySpark's workers faster: `spark.python.daemon.module` of a local session.

PySpark puts its own zip files and the spark-core jar on the workers' path, and every task reads
their directories again (300 ms of a task on a small machine). Here the same PySpark is installed.
"""

import sys

sys.path[:] = [entry for entry in sys.path if not entry.endswith((".zip", ".jar"))]

from pyspark import daemon  # noqa: E402 - imported from the path without archives

if __name__ == "__main__":
    daemon.manager()  # type: ignore[no-untyped-call]
