package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool"
)

// tokenCommand is aadpool token.
type tokenCommand struct {
	credentialFlags
	JSON bool `name:"json" help:"Print a JSON object with the token and when it expires, for callers that keep it."`
}

// tokenOutput is what --json prints.
type tokenOutput struct {
	Token     string    `json:"token"`
	ExpiresOn time.Time `json:"expires_on"`
	// ExpiresIn is in seconds, for those who would rather not parse a time.
	ExpiresIn int64 `json:"expires_in"`
}

// Help is shown by aadpool token --help.
func (tokenCommand) Help() string {
	return `For tools that want a password:

    PGPASSWORD=$(aadpool token) psql 'host=… user=… dbname=… sslmode=verify-full'

Without --scope it is for the server that PGHOST names, or for Azure's public cloud. A token is a secret: who has it can
log in with it until it ends.`
}

func (cmd *tokenCommand) run(in invocation) error {
	if err := cmd.check(); err != nil {
		return err
	}
	token, expires, err := cmd.getToken(in.ctx, in.outside, serverOnly(os.Getenv("PGHOST")))
	if err != nil {
		return err
	}
	shown := isTerminal
	if in.outside.isTerminal != nil {
		shown = in.outside.isTerminal
	}
	if shown(in.stdout) {
		fmt.Fprintln(in.stderr, "aadpool: this is a secret, and it is on the screen now: who has it can log in with it until it ends")
	}
	if cmd.JSON {
		return json.NewEncoder(in.stdout).Encode(tokenOutput{token, expires.UTC().Truncate(time.Second), int64(time.Until(expires).Seconds())})
	}
	_, err = io.WriteString(in.stdout, token+"\n")
	return err
}

// serverOnly is a config that says which server the token is for, and no more: host may be a list.
func serverOnly(hosts string) *pgx.ConnConfig {
	config := &pgx.ConnConfig{}
	for i, name := range strings.Split(hosts, ",") {
		if i == 0 {
			config.Host, config.TLSConfig = name, &tls.Config{ServerName: name}
			continue
		}
		config.Fallbacks = append(config.Fallbacks, &pgconn.FallbackConfig{Host: name, TLSConfig: &tls.Config{ServerName: name}})
	}
	return config
}

// getToken gets a token for the servers of config, in the way that a pool does, and returns it and when it expires.
func (f credentialFlags) getToken(ctx context.Context, o outside, config *pgx.ConnConfig) (token string, expires time.Time, err error) {
	hook, err := f.newHook(o, aadpool.WithLogger(silent))
	if err != nil {
		return "", expires, err
	}
	if err := hook.BeforeConnect(ctx, config); err != nil {
		return "", expires, exitError{status: exitCredential, text: oneLine(strings.Join(attemptLines(credentialText(err)), "; ")) + "; aadpool check says more"}
	}
	return config.Password, hook.Stats().TokenExpires, nil
}

// attemptLines is the text of a credential's error, shortened: for a chain a line for each credential.
func attemptLines(text string) []string {
	before, _, isChain := strings.Cut(text, "Attempted credentials:")
	if !isChain {
		return []string{reason(text)}
	}
	lines := []string{"no credential of the default chain has a token"}
	if timeout, _, ok := strings.Cut(before, ": "); ok && strings.Contains(timeout, "token timeout") {
		lines = []string{timeout}
	}
	for _, a := range parseAttempts(text) {
		lines = append(lines, a.String())
	}
	return lines
}
