"""hwbench measures neural networks on real boards, block by block, and keeps every number with its evidence."""
