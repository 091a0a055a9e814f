"""The asyncio shell around the core: who writes to the northbound, who asks the DNS, who hears of changes."""
