"""One module for each service of the API: requests in, the core asked, answers out."""
