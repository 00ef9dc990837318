package commands

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agent"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokenformat"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
)

// tokenCommand is aadpool token.
type tokenCommand struct {
	tokens.Flags
	tokens.AgentFlags
	Format string `enum:"bare,json,pgpass,env,exec-credential," default:"" env:"AADPOOL_FORMAT" placeholder:"FORMAT" help:"bare (default), json, pgpass (a line of a password file), env (an assignment for a shell) or exec-credential (Kubernetes')."`
	JSON   bool   `name:"json" help:"The same as --format json."`
}

// Help is shown by aadpool token --help.
func (tokenCommand) Help() string {
	return `For tools that want a password, or that run a command for one:

    PGPASSWORD=$(aadpool token) psql 'host=… user=… dbname=… sslmode=verify-full'

While aadpool agent or a proxy runs with the same flags and environment, the token comes from there, and costs no request.
Without --scope it is for the server that PGHOST names, or for Azure's public cloud. A token is a secret: whoever has it
can log in with it until it ends.`
}

func (cmd *tokenCommand) Run(in invocation.Invocation) error {
	if err := cmd.Check(); err != nil {
		return err
	}
	if cmd.JSON && cmd.Format != "" && cmd.Format != "json" {
		return exit.Usage("--json and --format " + cmd.Format + " cannot be used together")
	}
	got, err := cmd.get(in)
	if err != nil {
		return err
	}
	if in.System.IsShown(in.Stdout) {
		fmt.Fprintln(in.Stderr,
			"aadpool: this is a secret, and it is on the screen now: whoever has it can log in with it until it ends")
	}
	if cmd.JSON {
		cmd.Format = "json"
	}
	text, _, err := tokenformat.Text(cmd.Format, got.Token, got.ExpiresOn) // which the parser has looked at
	if err != nil {
		return err
	}
	_, err = io.WriteString(in.Stdout, text+"\n")
	return err
}

// get asks a running agent or proxy of the same identity, or else Entra.
func (cmd *tokenCommand) get(in invocation.Invocation) (agentclient.Token, error) {
	if token, err := cmd.fromAgent(in); !errors.Is(err, agent.ErrNoAgent) {
		return token, err
	}
	source, err := cmd.NewSource(in.System.ClientOptions)
	if err != nil {
		return agentclient.Token{}, err
	}
	token, expires, err := source.Token(in.Ctx, tokens.ServerOnly(os.Getenv("PGHOST")))
	return agentclient.Token{Token: token, ExpiresOn: expires}, err
}
