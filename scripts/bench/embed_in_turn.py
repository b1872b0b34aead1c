#!/usr/bin/env python3
"""Embedding beside onnxruntime, run by run in turn, as single minutes of a shared machine differ by a third.

    cargo build --release -p rlx-embed --example embed_speed
    python scripts/bench/embed_in_turn.py target/release/examples/embed_speed DIR [THREADS] [TURNS]

Prints texts per second of both (medians) and the median of the turns' ratios with its quartiles. Requirements: those of
onnxruntime_minilm.py.
"""

import pathlib
import statistics
import subprocess
import sys
import time

# Texts, and runs of a turn.
CASES = [("128 tokens, one text", 1, 10), ("128 tokens, 32 texts", 32, 2), ("5 to 256 tokens, 32 texts", 32, 2)]
# After a run its threads still look out for work for a while, and would disturb the other's.
PAUSE = 0.03


class Side:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def turn(self, case, runs):
        """Seconds of the best of some runs: the first follow upon another program's."""
        time.sleep(PAUSE)
        return min(self.seconds(case) for _ in range(runs))

    def seconds(self, case):
        self.process.stdin.write(f"{case}\n")
        # Lines that do not answer, such as what the program is, come before the first that does.
        while True:
            line = self.process.stdout.readline()
            if not line:
                sys.exit("a side has ended early")
            try:
                return float(line)
            except ValueError:
                continue


def main():
    example, directory = sys.argv[1:3]
    threads = sys.argv[3] if len(sys.argv) > 3 else "2"
    turns = int(sys.argv[4]) if len(sys.argv) > 4 else 40
    peer = pathlib.Path(__file__).with_name("onnxruntime_minilm.py")
    ours = Side([example, directory, threads, "--turns"])
    theirs = Side([sys.executable, str(peer), directory, threads, "--turns"])
    for case, (name, texts, runs) in enumerate(CASES):
        times = []
        for _ in range(turns + 1):
            times.append([side.turn(case, runs) for side in (ours, theirs)])
        times = times[1:]
        rates = [texts / statistics.median(t[side] for t in times) for side in (0, 1)]
        low, ratio, high = statistics.quantiles([b / a for a, b in times], n=4)
        print(f"{name}: {rates[0]:.1f} and {rates[1]:.1f} texts/s, ratio {ratio:.2f} ({low:.2f} to {high:.2f})", flush=True)


main()
