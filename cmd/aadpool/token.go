package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agent"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

// tokenCommand is aadpool token.
type tokenCommand struct {
	credentialFlags
	agentFlags
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

func (cmd *tokenCommand) run(in invocation) error {
	if err := cmd.check(); err != nil {
		return err
	}
	if cmd.JSON && cmd.Format != "" && cmd.Format != "json" {
		return exit.Usage("--json and --format " + cmd.Format + " cannot be used together")
	}
	got, err := cmd.get(in)
	if err != nil {
		return err
	}
	if in.outside.isShown(in.stdout) {
		fmt.Fprintln(in.stderr,
			"aadpool: this is a secret, and it is on the screen now: whoever has it can log in with it until it ends")
	}
	if cmd.JSON {
		cmd.Format = "json"
	}
	text, err := tokenFormats[cmd.Format](got.Token, got.ExpiresOn.UTC().Truncate(time.Second))
	if err != nil {
		return err
	}
	_, err = io.WriteString(in.stdout, text+"\n")
	return err
}

// get asks a running agent or proxy of the same identity, or else Entra.
func (cmd *tokenCommand) get(in invocation) (agent.Token, error) {
	if token, err := cmd.fromAgent(in.ctx); !errors.Is(err, agent.ErrNoAgent) {
		return token, err
	}
	source, err := cmd.tokenSource(in.outside)
	if err != nil {
		return agent.Token{}, err
	}
	token, expires, err := source.token(in.ctx, serverOnly(os.Getenv("PGHOST")))
	return agent.Token{Token: token, ExpiresOn: expires}, err
}

// tokenFormats are what consumers of tokens read.
var tokenFormats = map[string]func(token string, expires time.Time) (string, error){
	"bare": bareToken, "": bareToken,
	"json": func(token string, expires time.Time) (string, error) {
		return asJSON(struct {
			Token     string    `json:"token"`
			ExpiresOn time.Time `json:"expires_on"`
			ExpiresIn int64     `json:"expires_in"` // in seconds, for those who would rather not parse a time
		}{token, expires, int64(time.Until(expires).Seconds())})
	},
	// https://www.postgresql.org/docs/current/libpq-pgpass.html
	"pgpass": func(token string, _ time.Time) (string, error) {
		return "*:*:*:*:" + strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(token), nil
	},
	"env": func(token string, _ time.Time) (string, error) {
		return "export PGPASSWORD=" + diag.ShellQuote(token), nil
	},
	// https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
	"exec-credential": func(token string, expires time.Time) (string, error) {
		return asJSON(map[string]any{
			"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
			"status": map[string]any{"token": token, "expirationTimestamp": expires},
		})
	},
}

func bareToken(token string, _ time.Time) (string, error) { return token, nil }

func asJSON(value any) (string, error) {
	encoded, err := json.Marshal(value)
	return string(encoded), err
}

// serverOnly is a config that says which server the token is for, and no more: host may be a list.
func serverOnly(hosts string) *pgx.ConnConfig {
	config := &pgx.ConnConfig{}
	for i, name := range strings.Split(hosts, ",") {
		if i == 0 {
			config.Host, config.TLSConfig = name, &tls.Config{ServerName: name}
			continue
		}
		config.Fallbacks = append(config.Fallbacks, &pgconn.FallbackConfig{Host: name,
			TLSConfig: &tls.Config{ServerName: name}})
	}
	return config
}

// A tokenSource gets tokens in the way that a pool does.
type tokenSource struct {
	flags      credentialFlags
	credential *server.WatchedCredential
	hook       *aadpool.Hook
}

// tokenSource is that of the flags. Its error is about them.
func (f credentialFlags) tokenSource(o outside, options ...aadpool.Option) (tokenSource, error) {
	credential := f.watched(o.clientOptions)
	hook, err := f.hookOn(credential, append([]aadpool.Option{aadpool.WithLogger(silent)}, options...)...)
	return tokenSource{f, credential, hook}, err
}

// token is one for the servers of config, and when it expires.
func (s tokenSource) token(ctx context.Context, config *pgx.ConnConfig) (token string, expires time.Time, err error) {
	if err := s.hook.BeforeConnect(ctx, config); err != nil {
		return "", time.Time{}, s.failure(err)
	}
	given, _ := s.credential.Given()
	return given.Token, given.ExpiresOn, nil
}

// failure is the error of a command that wants a token and has got none.
func (s tokenSource) failure(err error) error {
	noToken, ok := errors.AsType[*aadpool.TokenError](err)
	if !ok { // the hosts need tokens of different scopes
		return exit.Usage(terminal.WithoutPrefix(err))
	}
	text := strings.Join(server.AttemptLines(noToken.Err), "; ")
	if d := s.credential.Diagnose(noToken.Err); d.Cause != diag.NoCredential && d.Cause != diag.OtherCredential {
		text += ". " + d.Meaning + " To fix: " + d.FirstCommand()
	}
	return exit.Error{Status: exitCredential, Text: strings.TrimSuffix(text, ".") + "; aadpool check says more"}
}
