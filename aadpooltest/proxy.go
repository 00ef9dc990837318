package aadpooltest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// proxied answers requests of processes whose proxy is the authority, see [Authority.ProxyEnv], and gives the others to
// next.
func (a *Authority) proxied(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodConnect:
			a.serveConnect(w, r)
		case r.URL.Host != "" && addressOf(r.URL.Host, "80") != imdsAddress:
			refuseProxying(w, r.URL.Host)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// addressOf adds the port to a host that has none.
func addressOf(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(host, port)
}

func refuseProxying(w http.ResponseWriter, host string) {
	message := fmt.Sprintf("aadpooltest: a process asked for %s: the authority's proxy reaches the authority alone", host)
	http.Error(w, message, http.StatusForbidden)
}

// serveConnect passes a connection for login.microsoftonline.com on to the authority's own listener, whose certificate
// has that name: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6.
func (a *Authority) serveConnect(w http.ResponseWriter, r *http.Request) {
	if entra := a.entraAddress(); r.Host != instanceDiscoveryAddress && r.Host != entra {
		refuseProxying(w, r.Host)
		return
	}
	upstream, err := a.dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = upstream.Close()
		return
	}
	if !a.beginTunnel() {
		_, _ = client.Close(), upstream.Close()
		return
	}
	defer a.tunnels.Done()
	_, _ = client.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")) // the copy finds out if it failed
	a.tunnel(client, buffered, upstream)
}

// beginTunnel reports false when the authority has been closed.
func (a *Authority) beginTunnel() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closing.Err() != nil {
		return false
	}
	a.tunnels.Add(1)
	return true
}

// tunnel copies both ways until one side ends or the authority is closed.
func (a *Authority) tunnel(client net.Conn, fromClient io.Reader, upstream net.Conn) {
	end := func() { _, _ = client.Close(), upstream.Close() }
	defer end()
	defer context.AfterFunc(a.closing, end)()
	var toUpstream sync.WaitGroup
	toUpstream.Go(func() {
		defer end()
		_, _ = io.Copy(upstream, fromClient)
	})
	_, _ = io.Copy(client, upstream)
	end()
	toUpstream.Wait()
}
