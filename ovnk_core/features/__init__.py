"""One room per network feature. Rooms never import each other; ``pipeline.ROOMS`` is the only list of them."""
