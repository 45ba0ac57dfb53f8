"""What the names of published networks stand for, one module a family (entry points `hwbench.decoders`); no torch."""
