// Aadpool finds out why a login to Azure Database for PostgreSQL with a Microsoft Entra access token fails, and brings
// such tokens to tools that want a password.
//
//	aadpool check [DSN]            goes the whole way to a query, step by step, and says what to type at the first fault
//	aadpool proxy [DSN] [-- cmd]   lets every program that speaks PostgreSQL log in with access tokens
//	aadpool proxy status           says how each server of a running proxy is doing; aadpool wait waits until it is ready
//	aadpool login                  signs a person in once, for the other commands; logout ends it, whoami says who it is
//	aadpool agent                  serves tokens from memory to aadpool token
//	aadpool token                  prints an access token, for PGPASSWORD
//	aadpool psql [DSN] [-- args]   runs psql with an access token
//	aadpool role NAME [DSN]        makes the database role of a principal and gives it rights, or prints the SQL for it
//	aadpool install DIR            copies this program into a directory, for an init container
//	aadpool completion SHELL       prints what has bash, zsh, fish or PowerShell complete this program's arguments
//	aadpool man                    prints the manual page
//
// It uses package github.com/aadpool/aadpool for what that decides: the TLS policy, the scope, the pool's lifetimes.
//
// # Exit status
//
//	0    all is well
//	1    something else went wrong
//	2    the arguments or the DSN are wrong
//	3    the DSN would send a token in the clear
//	4    the server cannot be reached: name, address, firewall
//	5    TLS: certificate, name, roots
//	6    no access token: credential, tenant, scope
//	7    the server does not take the token: expired, for another resource or tenant, too long
//	8    the server does not take the role: missing, or another principal's
//	9    the server takes token and role, but not the connection: database, rights, firewall, load
//	127  psql, or the command of aadpool proxy, is not there
//	130  interrupted
//
// aadpool psql, and aadpool proxy with a command, return the program's own status once it runs; 128 and the signal's
// number if a signal ended it. aadpool proxy without a command returns 0 when SIGTERM or SIGINT has ended it.
package main

import (
	"context"
	"io"
	"os"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/child"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandline"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commands"
	_ "github.com/aadpool/aadpool/cmd/aadpool/internal/early" // answers aadpool token from an agent
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/service"
)

func main() {
	if _, ofChild := commandline.Split(os.Args[1:]); ofChild != nil { // which may leave orphans
		if code, is := child.RunAsInit(os.Args[1:]); is {
			os.Exit(code)
		}
	}
	ofService := func(ctx context.Context, log io.Writer) int {
		return int(commands.Run(ctx, os.Args[1:], log, log, invocation.System{}))
	}
	if code, is := service.Run(ofService); is {
		os.Exit(code)
	}
	ctx, stop := child.UntilSignal()
	code := commands.Run(ctx, os.Args[1:], os.Stdout, os.Stderr, invocation.System{})
	stop()
	os.Exit(int(code))
}
