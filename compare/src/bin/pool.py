"""CPython's pools, for pool.rs: for each line on standard input a line of nanoseconds a task."""

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor


def add_one(n):
    return n + 1


def measure(work, tasks):
    begin = time.perf_counter_ns()
    total = sum(work())
    took = time.perf_counter_ns() - begin
    assert total == tasks * (tasks + 1) // 2
    return took / tasks


def main():
    workers, tasks = int(sys.argv[1]), int(sys.argv[2])
    context = multiprocessing.get_context("fork")
    few = tasks // 10
    with context.Pool(workers) as pool, ProcessPoolExecutor(workers, context) as executor:
        cases = [
            (lambda: pool.map(add_one, range(tasks), 1), tasks),
            (lambda: pool.map(add_one, range(tasks)), tasks),
            (lambda: executor.map(add_one, range(few)), few),
            (lambda: (pool.apply(add_one, (n,)) for n in range(few // 10)), few // 10),
        ]
        for _ in sys.stdin:
            print(*(measure(work, count) for work, count in cases), flush=True)


if __name__ == "__main__":
    main()
