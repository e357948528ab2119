"""All gRPC: the server, the pipeline of every call, the services, the error table."""
