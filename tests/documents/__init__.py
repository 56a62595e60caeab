"""What `tests/test_documents.py` needs to compare the documents with the code."""
