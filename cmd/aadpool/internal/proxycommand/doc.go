// Package proxycommand is aadpool proxy, and aadpool psql, which is the proxy with psql as its command: how a proxy is
// configured and run. What serves clients is package proxy.
//
//	command.go         the flags, and the run: settings, upstreams, listeners, until a signal
//	settings.go        what the command line, the environment and the file say together
//	file.go            the file, whose keys are the flags
//	upstream.go        each server: its flags, what is made of them, its identity and tokens
//	tcp.go             where a server listens that nobody has told, and the password of --tcp
//	connectiontest.go  one login at the start, as aadpool check does it
//	ready.go           what is said when the proxy is ready
//	reload.go          SIGHUP
//	program.go         a proxy with a command beside it, and the command's environment
//	psql.go            psql as that command
//
// To add a flag, add a field to Command, or to upstreamFlags where each server may have its own. Help, file, schema and
// variable follow; what reads it stands in one of these files.
package proxycommand
