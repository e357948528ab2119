"""What tests share."""

import os

# Read when grpc is imported. PostgreSQL is started as another user, which takes a real fork, and
# gRPC's handlers for one crash the child while calls are under way: measured in 41 of 150 forks.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
