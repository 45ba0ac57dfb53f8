"""What goes to the board: loads graphs, times windows, answers inputs.

Travels as one zip file, so it imports nothing of hwbench but itself: Python 3.6 syntax, the standard library, numpy
and one runtime.
"""
