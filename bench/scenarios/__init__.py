"""One module per scenario; each has ``run() -> Figures``. ``bench.run`` lists them."""
