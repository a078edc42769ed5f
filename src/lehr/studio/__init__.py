"""The studio: a page in the browser that asks lehr's questions, and the server behind it (FastAPI, extra `studio`)."""
