"""What asyncio awaits: the clients' other face."""
