"""The asyncio shell around the core: who writes to the northbound, who hears of changes."""
