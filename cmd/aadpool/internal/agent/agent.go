// Package agent serves access tokens to other processes of the same user and the same identity, so that a program that
// runs aadpool token for each connection costs no request to Entra each time. Tokens are in memory alone.
//
// The server and its clients meet at a Unix socket that is named by the identity: by what decides whose token it is. A
// client whose flags or environment say something else finds no socket, and asks Entra itself.
package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// A Token is what an agent gives.
type Token struct {
	Token     string    `json:"token"`
	ExpiresOn time.Time `json:"expires_on"`
}

// Identity names whose tokens are meant, by the settings of the command line and by what azidentity reads of the
// environment. Secrets do not go into it, but whether there are any.
func Identity(settings ...string) string {
	sum := sha256.New()
	for _, s := range append(slices.Clone(settings), environment()...) {
		fmt.Fprintf(sum, "%q\n", s)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// environment is what decides which credential azidentity takes, and whom that is for, sorted.
func environment() (variables []string) {
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case !decides(name):
		case isSecret(name):
			variables = append(variables, name)
		default:
			variables = append(variables, name+"="+absolute(name, value))
		}
	}
	slices.Sort(variables)
	return variables
}

// decides reports whether a variable says whose tokens are meant: those that azidentity reads, those of platforms that
// vouch for a job, and where the tools that people sign in to keep whom.
func decides(name string) bool {
	for _, prefix := range []string{"AZURE_", "AZURESUBSCRIPTION_", "IDENTITY_", "MSI_", "IMDS_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains([]string{"SYSTEM_OIDCREQUESTURI", "ACTIONS_ID_TOKEN_REQUEST_URL", "AZD_CONFIG_DIR", "HOME",
		"USERPROFILE"}, name)
}

// absolute is a variable's value, in the place of a path that means another file in another directory.
func absolute(name, value string) string {
	isPath := strings.HasSuffix(name, "_PATH") || strings.HasSuffix(name, "_FILE") || strings.HasSuffix(name, "_DIR")
	if value != "" && isPath {
		return Path(value)
	}
	return value
}

func isSecret(name string) bool {
	for _, word := range []string{"SECRET", "PASSWORD", "HEADER"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// What a client can hold is bounded: it has nothing to say but the scope.
const (
	readTimeout = 10 * time.Second
	maxHeader   = 16 << 10
)

// Serve answers at l until ctx ends. get returns a token for a scope. An answer that fails repeats get's error, which
// must hold no secret.
func Serve(ctx context.Context, l net.Listener, get func(ctx context.Context, scope string) (Token, error)) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusProcessing) // tells the client at once that somebody is here: see patience
		token, err := get(r.Context(), r.URL.Query().Get("scope"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(token) // the client has gone: nobody is left to tell
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout,
		IdleTimeout:    readTimeout,
		MaxHeaderBytes: maxHeader}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serving tokens: %w", err)
	}
	return nil
}

// ErrNoAgent is the cause where there is none to ask.
var ErrNoAgent = errors.New("no agent serves this identity")

// patience is how long an agent may say nothing at all. One that runs answers within milliseconds that it has heard,
// however long Entra takes; one that was stopped (SIGSTOP, a debugger, a frozen container) never does.
const patience = 3 * time.Second

// maxAnswer is far more than any token: the largest are seven kilobytes.
const maxAnswer = 64 << 10

// Ask asks the agent that dial reaches for a token. Where nobody listens, or whoever does says nothing for three
// seconds, the error is ErrNoAgent; any other is the agent's own.
func Ask(ctx context.Context, scope string, dial func(context.Context) (net.Conn, error)) (Token, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(patience, func() { cancel(ErrNoAgent) })
	defer silence.Stop()
	conn, err := dial(ctx)
	if err != nil {
		return Token{}, ErrNoAgent
	}
	defer conn.Close()
	token, err := askOn(ctx, conn, scope, func() { silence.Stop() })
	if err != nil && errors.Is(context.Cause(ctx), ErrNoAgent) {
		return Token{}, ErrNoAgent
	}
	return token, err
}

// askOn asks on a connection. heard is called when the agent has said that it has heard, before it answers.
func askOn(ctx context.Context, conn net.Conn, scope string, heard func()) (Token, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: heard})
	address := "http://agent/token?scope=" + url.QueryEscape(scope)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return Token{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return Token{}, fmt.Errorf("asking the agent for a token: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return Token{}, fmt.Errorf("asking the agent for a token: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return Token{}, errors.New(strings.TrimSpace(string(body)))
	}
	var token Token
	if err := json.Unmarshal(body, &token); err != nil || token.Token == "" {
		return Token{}, errors.New("asking the agent for a token: there is none in its answer")
	}
	return token, nil
}
