package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/connections"
)

// What a slow or hostile client may take, beside what Config has. Requests are small. Half a header holds nothing but
// its connection.
const (
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 16 << 10
)

// readTimeout is how long a client may take to send a request.
func (c Config) readTimeout() time.Duration { return c.HeaderTimeout + c.OAuth.BodyTimeout }

// http2Config keeps a connection of HTTP/2 from holding more than several of HTTP/1 would. What it leaves out is Go's:
// handlers of streams that were reset count until they return, and a client that goes on to reset streams loses its
// connection once four times MaxConcurrentStreams wait.
func http2Config(readTimeout time.Duration) *http.HTTP2Config {
	return &http.HTTP2Config{
		// Go: 250. https://www.rfc-editor.org/rfc/rfc9113#section-6.5.2 recommends 100 or more.
		MaxConcurrentStreams:          100,
		MaxReadFrameSize:              16 << 10,         // Go: 1 MiB; a body may have 16 KiB
		MaxReceiveBufferPerConnection: 64 << 10,         // Go: 1 MiB. All bodies of a connection together.
		MaxReceiveBufferPerStream:     16 << 10,         // Go: 1 MiB
		MaxDecoderHeaderTableSize:     4 << 10,          // as in Go
		SendPingTimeout:               30 * time.Second, // Go: never. A client that is gone is noticed within a minute.
		PingTimeout:                   15 * time.Second, // as in Go
		WriteByteTimeout:              readTimeout,      // Go: none
	}
}

func (s *Service) server(connections *connections.Listener, certificate tls.Certificate) *http.Server {
	return &http.Server{
		Handler:           s.handler,
		ConnContext:       connections.Context,
		ReadHeaderTimeout: s.config.HeaderTimeout,
		ReadTimeout:       s.config.readTimeout(),
		WriteTimeout:      s.config.readTimeout() + s.config.RequestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             http2Config(s.config.readTimeout()),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}},
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // handshakes that strangers broke off
	}
}

// Serve serves HTTPS on listener until ctx ends, and then finishes what is under way. It returns nil if that
// succeeded. It is to be called once.
func (s *Service) Serve(ctx context.Context, listener net.Listener, certificate tls.Certificate) error {
	bounded := connections.Listen(listener, s.config.Connections)
	s.listener.Store(bounded)
	server := s.server(bounded, certificate)
	maintaining, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { s.maintain(maintaining) })
	defer background.Wait()
	defer stop()

	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(bounded, "", "") }()
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	s.log.Info("finishing what is under way")
	finishing, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.ShutdownTimeout)
	defer cancel()
	err := shutDown(finishing, server)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests were still under way after %s: %w", s.config.ShutdownTimeout, err),
			server.Close())
	}
	<-served
	return err
}

// shutDown is [http.Server.Shutdown] again and again: that asks the connections of HTTP/2 to end once, when it begins,
// and would wait for the client of one whose handshake ends later.
func shutDown(ctx context.Context, server *http.Server) error {
	for {
		asking, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		err := server.Shutdown(asking)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// wrap is what holds for every request.
func (s *Service) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(r.Context(), s.config.RequestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		secure(w.Header())
		recorder := &statusRecorder{ResponseWriter: w}
		defer s.finish(recorder, r, start)
		working := connections.Working(r.Context())
		if r.ContentLength == 0 { // it has been read whole
			defer working()
		} else {
			working() // its connection waits from now on
		}
		next.ServeHTTP(recorder, r)
	})
}

// secure sets the headers of
// https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html#security-headers. Tokens must not be
// stored: https://www.rfc-editor.org/rfc/rfc6749#section-5.1. What may be says so later.
func secure(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Strict-Transport-Security", "max-age=31536000")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
}

// finish ends a request: in an error if it panicked, and in the log with nothing that a client chose but the method.
func (s *Service) finish(w *statusRecorder, r *http.Request, start time.Time) {
	if cause := recover(); cause != nil {
		s.log.ErrorContext(r.Context(), "panic", slog.String("type", fmt.Sprintf("%T", cause)),
			slog.String("stack", string(debug.Stack())))
		if w.status == 0 {
			http.Error(w, `{"error":"server_error"}`, http.StatusInternalServerError)
		}
	}
	s.log.InfoContext(r.Context(), "request", slog.String("route", r.Pattern), slog.Int("status", w.status),
		slog.Duration("took", time.Since(start)), slog.String("from", r.RemoteAddr))
}

// statusRecorder remembers what was answered.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (w *statusRecorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusRecorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.MaxBytesReader close the connection.
func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
