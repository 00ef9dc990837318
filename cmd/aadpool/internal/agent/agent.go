// Package agent serves access tokens to other processes of the same user and the same identity, so that a program that
// runs aadpool token for each connection costs no request to Entra each time. Tokens are in memory alone.
//
// The server and its clients meet at a Unix socket that is named by the identity: by what decides whose token it is. A
// client whose flags or environment say something else finds no socket, and asks Entra itself. What a client needs to
// know is in package agentclient.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
)

// What a client can hold is bounded: it has nothing to say but the scope.
const (
	readTimeout = 10 * time.Second
	maxHeader   = 16 << 10
)

// endTimeout is how long an agent that ends waits for a client that takes no answer, or asks nothing.
const endTimeout = time.Second

// Serve answers at l until ctx ends. get returns a token for a scope. An answer that fails repeats get's error, which
// must hold no secret.
func Serve(
	ctx context.Context, l net.Listener, get func(ctx context.Context, scope string) (agentclient.Token, error),
) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusProcessing) // tells the client at once that somebody is here: see Patience
		token, err := get(r.Context(), r.URL.Query().Get("scope"))
		switch {
		case errors.Is(err, context.Canceled) && ctx.Err() != nil:
			w.WriteHeader(http.StatusServiceUnavailable) // see agentclient.ErrEnding
			return
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(token) // the client has gone: nobody is left to tell
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout,
		IdleTimeout:    readTimeout,
		MaxHeaderBytes: maxHeader,
		BaseContext:    func(net.Listener) context.Context { return ctx }}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		end(server)
	})
	err := server.Serve(l)
	if !stop() {
		<-ended
	}
	if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serving tokens: %w", err)
	}
	return nil
}

// end ends a server whose requests' context has ended: those who wait hear why they get no token.
func end(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	_ = server.Shutdown(ctx)
	_ = server.Close()
}

// ErrNoAgent is the cause where there is none to ask.
var ErrNoAgent = errors.New("no agent serves this identity")

// Patience is how long an agent may say nothing at all. One that runs answers within milliseconds that it has heard,
// however long Entra takes; one that was stopped (SIGSTOP, a debugger, a frozen container) never does. On Linux package
// early has waited for a second before.
const Patience = 2 * time.Second

// Ask asks the agent that dial reaches for a token. Where nobody listens, or whoever does is told to end, or says
// nothing for as long as patience, the error is ErrNoAgent; any other is the agent's own.
func Ask(
	ctx context.Context, patience time.Duration, scope string, dial func(context.Context) (net.Conn, error),
) (agentclient.Token, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(patience, func() { cancel(ErrNoAgent) })
	defer silence.Stop()
	conn, err := dial(ctx)
	if err != nil {
		return agentclient.Token{}, ErrNoAgent
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	token, err := agentclient.Ask(conn, scope, func() { silence.Stop() })
	if errors.Is(err, agentclient.ErrEnding) {
		return agentclient.Token{}, ErrNoAgent
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		if errors.Is(cause, ErrNoAgent) {
			return agentclient.Token{}, ErrNoAgent
		}
		err = fmt.Errorf("asking the agent for a token: %w", cause)
	}
	return token, err
}
