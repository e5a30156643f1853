"""The read half: waiting, paging, sessions, credentials, isolation."""
