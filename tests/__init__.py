"""Tests mirror the code: tests/hwbench/test_x.py tests hwbench/x.py."""
