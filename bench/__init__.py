"""Benchmarks: Sampan beside today's docker on this machine, both sides in one run, interleaved (`./dev bench NAME`)."""
