package tokens

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

// ServerOnly is a config that says which server the token is for, and no more: host may be a list.
func ServerOnly(hosts string) *pgx.ConnConfig {
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

// A Source gets tokens in the way that a pool does.
type Source struct {
	Flags      Flags
	Credential *server.WatchedCredential
	Hook       *aadpool.Hook
}

// NewSource is that of the flags. Its error is about them.
func (f Flags) NewSource(o azcore.ClientOptions, options ...aadpool.Option) (Source, error) {
	credential := f.Watch(o)
	hook, err := f.NewHook(credential, append([]aadpool.Option{aadpool.WithLogger(Silent)}, options...)...)
	return Source{f, credential, hook}, err
}

// Token is one for the servers of config, and when it expires.
func (s Source) Token(ctx context.Context, config *pgx.ConnConfig) (token string, expires time.Time, err error) {
	if err := s.Hook.BeforeConnect(ctx, config); err != nil {
		return "", time.Time{}, s.failure(err)
	}
	given, _ := s.Credential.Given()
	return given.Token, given.ExpiresOn, nil
}

// failure is the error of a command that wants a token and has got none.
func (s Source) failure(err error) error {
	noToken, ok := errors.AsType[*aadpool.TokenError](err)
	if !ok { // the hosts need tokens of different scopes
		return exit.Usage(terminal.WithoutPrefix(err))
	}
	text := s.Credential.Diagnose(noToken.Err).Behind(strings.Join(server.AttemptLines(noToken.Err), "; "))
	return exit.Error{Status: diag.Credential, Text: strings.TrimSuffix(text, ".") + "; aadpool check says more"}
}
