// Package tokens is where a command's access tokens come from.
//
//	flags.go   the flags by which all commands name whose token they want, and what a DSN adds to them
//	prompt.go  what a person is shown who is to enter a code
//	kept.go    the sign-in that aadpool login has kept
//	source.go  one token, got as a pool gets it
//	server.go  tokens of several scopes, which are kept fresh: for aadpool token
package tokens
