"""What keeps and answers: builds entries from records, stores them, and serves them over WebSocket."""
