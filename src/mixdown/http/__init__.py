"""HTTP: requests become records and questions, outcomes and answers become replies."""
