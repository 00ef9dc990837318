// Package early answers aadpool token from a running agent before the rest of the program has begun.
//
// A program that runs aadpool token for each connection pays for its start each time: the packages of OpenTelemetry,
// gRPC, Prometheus, azidentity and others, which aadpool token does not need beside an agent, take several milliseconds
// to make their tables. Go initialises packages by their import paths, each as soon as what it imports is there:
// https://go.dev/ref/spec#Program_initialization. This one imports so little that it is there before them, and its init
// ends the program when it has printed the token.
//
// It does what commands.tokenCommand does, with the same functions, and nothing else: whatever is not as usual (other
// arguments, a terminal, no agent, an agent that fails or is slow) it leaves to that.
package early
