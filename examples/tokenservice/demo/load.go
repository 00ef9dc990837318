package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aadpool/aadpool/examples/internal/latency"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
)

const (
	// meanPause is how long a client rests between two requests: eight of them then keep one core of two busy with hashes.
	meanPause = 150 * time.Millisecond

	// A client uses its access token a few times, refreshes it, and logs in anew after a few refreshes.
	usesPerToken     = 3
	refreshesPerTurn = 5

	requestTimeout = 15 * time.Second
)

// kind is what a request is for.
type kind int

const (
	login kind = iota
	refresh
	use
	kinds
)

// load is clients of the service, each of which logs in, refreshes its tokens and uses them, on any replica.
type load struct {
	http    *http.Client
	urls    []string
	clients []localservice.Registration

	mu         sync.Mutex // guards what follows
	counts     [kinds]int64
	failed     int64
	firstError error
	latencies  latency.Recorder // of requests for tokens
}

func newLoad(client *http.Client, urls []string, clients []localservice.Registration) *load {
	return &load{http: client, urls: urls, clients: clients}
}

// run lets the clients work until ctx ends, and returns when all their requests have been answered.
func (l *load) run(ctx context.Context) {
	var working sync.WaitGroup
	for _, client := range l.clients {
		working.Go(func() {
			for ctx.Err() == nil {
				l.turn(ctx, client)
			}
		})
	}
	working.Wait()
}

// turn is one login and what follows from it. A failure ends it.
func (l *load) turn(ctx context.Context, client localservice.Registration) {
	tokens, err := l.token(client, login, url.Values{"grant_type": {"client_credentials"}})
	for range refreshesPerTurn {
		for range usesPerToken {
			if err != nil || !pause(ctx) {
				return
			}
			err = l.use(client, tokens.Access)
		}
		if err != nil || !pause(ctx) {
			return
		}
		tokens, err = l.token(client, refresh, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Refresh}})
	}
}

// pause returns false when the load is to end.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(meanPause/2 + rand.N(meanPause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

func (l *load) token(client localservice.Registration, kind kind, form url.Values) (tokens, error) {
	r, err := http.NewRequest(http.MethodPost, l.anyReplica()+"/tokenservice/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	if err != nil {
		return tokens{}, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(client.ClientID.String(), client.Secret.Reveal())
	var t tokens
	start := time.Now()
	err = l.send(r, &t)
	l.record(kind, time.Since(start), err)
	return t, err
}

func (l *load) use(client localservice.Registration, access string) error {
	r, err := http.NewRequest(http.MethodGet, l.anyReplica()+"/v1/me", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+access)
	var me struct {
		ClientID string `json:"client_id"`
	}
	start := time.Now()
	err = l.send(r, &me)
	if err == nil && me.ClientID != client.ClientID.String() {
		err = fmt.Errorf("the service takes %s for %q", client.Name, me.ClientID)
	}
	l.record(use, time.Since(start), err)
	return err
}

func (l *load) anyReplica() string { return l.urls[rand.N(len(l.urls))] }

// send makes a request to its end, whether or not the load is to end meanwhile.
func (l *load) send(r *http.Request, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	response, err := l.http.Do(r.WithContext(ctx))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", r.Method, r.URL.Path, response.Status, bytes.TrimSpace(body))
	}
	return json.Unmarshal(body, into)
}

func (l *load) record(kind kind, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[kind]++
	if kind != use {
		l.latencies.Add(took)
	}
	if err != nil {
		l.failed++
		if l.firstError == nil {
			l.firstError = err
		}
	}
}

// tally is what a load has done so far.
type tally struct {
	logins, refreshes, uses int64
	failed                  int64
	firstError              error
	p50, p99, max           time.Duration // of requests for tokens
}

func (t tally) requests() int64 { return t.logins + t.refreshes + t.uses }

// endSecond returns the tally so far, with the latencies of the time since the call before.
func (l *load) endSecond() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally(l.latencies.EndSecond())
}

// end returns the tally with the latencies of the whole load.
func (l *load) end() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally(l.latencies.All())
}

// tally is called with l.mu held.
func (l *load) tally(latencies *latency.Histogram) tally {
	return tally{
		logins:     l.counts[login],
		refreshes:  l.counts[refresh],
		uses:       l.counts[use],
		failed:     l.failed,
		firstError: l.firstError,
		p50:        latencies.Percentile(50),
		p99:        latencies.Percentile(99),
		max:        latencies.Max(),
	}
}
