"""The log's readers: they turn records into profiles, in log order, once each."""
