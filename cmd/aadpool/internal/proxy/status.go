package proxy

import (
	"encoding/json"
	"net/http"
	"time"
)

// A Status is how an upstream is doing.
type Status struct {
	Name      string     `json:"name,omitempty"`
	Server    string     `json:"server"` // the DSN's first
	Listening []string   `json:"listening"`
	Identity  string     `json:"identity,omitempty"`
	Sessions  int        `json:"sessions"`
	Opened    int64      `json:"sessions_total"`
	TokenEnds *time.Time `json:"token_ends,omitempty"` // nil: there is none
	NotReady  string     `json:"not_ready,omitempty"`
}

// answerStatus is for aadpool proxy status.
func (p *Proxy) answerStatus(w http.ResponseWriter, request *http.Request) {
	asked := p.current()
	errs := p.readiness(request.Context(), asked, false)
	all := make([]Status, len(asked))
	for i, u := range asked {
		all[i] = u.status()
		if errs[i] != nil {
			all[i].NotReady = line(errs[i])
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all) // the client has gone: nobody is left to tell
}

func (u *upstream) status() Status {
	s := Status{Name: u.config.Name, Server: u.config.Server.Host, Identity: u.config.Identity, Listening: []string{},
		Sessions: u.openCount(), Opened: u.metrics.opened.Load()}
	for _, a := range u.addrs() {
		s.Listening = append(s.Listening, a.String())
	}
	if ends := u.config.Hook.Stats().TokenExpires; !ends.IsZero() {
		s.TokenEnds = &ends
	}
	return s
}
