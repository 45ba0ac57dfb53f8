"""models holds the search spaces (plain numpy) and the weight-sharing supernets (PyTorch) that realise them."""
