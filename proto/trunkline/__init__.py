"""The contract of Trunkline: messages and gRPC stubs, generated from the .proto files beside them."""
