package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aadpool/aadpool/aadpooltest"
)

// control is the API by which tests change the stand-ins while they serve, and containers learn about them:
//
//	GET /healthz                    200 once all of them serve
//	GET /ca.pem                     the one certificate to trust
//	GET /env, /env.sh               the environment, as a JSON object or as export lines; with ca= it names that file
//	PUT /ports                      entra=, machine=, postgres=, control=: the ports by which clients reach a container
//	PUT /fault/NAME, DELETE /fault  one of -fault's, or none any more
//	PUT /refusal                    every login is refused with sqlstate= and message=; DELETE /fault ends it
//	PUT /settings                   token-life=, token-age=, latency=
//	POST /connections/close         every session is cut, as by a failover
//	POST /principals                registers kind= and name=, and answers with its ids and secret; administrator=true
//	DELETE /principals/NAME         turns it off; registering it again turns it on
//
// Parameters are in the query or in a form. Whoever reaches it can have every token: it is for tests alone.
type control struct {
	standIns   *standIns
	listener   net.Listener
	publicPort atomic.Int32 // by which clients reach it, if not by its own
	server     *http.Server
}

// startControl serves it at the address, and adds where that is to the environment.
func startControl(s *standIns, o *options) error {
	listener, err := net.Listen("tcp", o.address(o.controlPort))
	if err != nil {
		return err
	}
	c := &control{standIns: s, listener: listener}
	s.control = c
	if err := s.makeEnvironment(); err != nil {
		return err
	}
	c.server = &http.Server{Handler: c.handler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = c.server.Serve(listener) }()
	return nil
}

// controlEnvironment says where it is.
func (s *standIns) controlEnvironment() (map[string]string, error) {
	if s.control == nil {
		return nil, nil
	}
	host, port, err := net.SplitHostPort(s.control.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	switch {
	case len(s.hosts) > 0:
		host = s.hosts[0]
	case net.ParseIP(host).IsUnspecified():
		host = "127.0.0.1"
	}
	if mapped := s.control.publicPort.Load(); mapped > 0 {
		port = strconv.Itoa(int(mapped))
	}
	return map[string]string{"AADPOOLTEST_CONTROL": "http://" + net.JoinHostPort(host, port)}, nil
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /ca.pem", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(c.standIns.entra.CertificatePEM()) // the client has gone: nobody is left to tell
	})
	for path, asJSON := range map[string]bool{"GET /env": true, "GET /env.sh": false} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			variables, err := c.standIns.variables(r.FormValue("ca"))
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = printEnvironment(w, variables, asJSON)
		})
	}
	for path, change := range map[string]func(*http.Request) (any, error){
		"PUT /ports":                c.setPorts,
		"PUT /fault/{name}":         c.setFault,
		"DELETE /fault":             c.endFaults,
		"PUT /refusal":              c.refuse,
		"PUT /settings":             c.set,
		"POST /connections/close":   c.closeConnections,
		"POST /principals":          c.register,
		"DELETE /principals/{name}": c.revoke,
	} {
		mux.HandleFunc(path, changing(change))
	}
	return mux
}

// changing answers what a change does: 204, or what it returns as JSON, or 400 and why not.
func changing(change func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := change(r)
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		case answer == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(answer)
		}
	}
}

// setPorts is for whoever has started a container, and learns only then to which of its own the ports are mapped.
func (c *control) setPorts(r *http.Request) (any, error) {
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	ports := map[string]int{}
	for name := range r.Form {
		port, err := strconv.ParseUint(r.Form.Get(name), 10, 16)
		if !slices.Contains([]string{"entra", "machine", "postgres", "control"}, name) || err != nil {
			return nil, fmt.Errorf("want entra=, machine=, postgres= or control=, each with a port, such as 49153")
		}
		ports[name] = int(port)
	}
	c.standIns.entra.SetPublicPorts(ports["entra"], ports["machine"])
	c.standIns.server.SetPublicPort(ports["postgres"])
	c.publicPort.Store(int32(ports["control"]))
	return nil, c.standIns.makeEnvironment()
}

func (c *control) setFault(r *http.Request) (any, error) {
	f, err := faultNamed(r.PathValue("name"))
	if err != nil {
		return nil, fmt.Errorf("%w: the faults are %s", err, faultNames())
	}
	f.set(c.standIns.entra, c.standIns.server)
	return nil, nil
}

func (c *control) endFaults(*http.Request) (any, error) {
	c.standIns.entra.SetFailure(aadpooltest.Failure{})
	c.standIns.server.SetFault(aadpooltest.Fault{})
	c.standIns.server.SetAudience(aadpooltest.DefaultAudience)
	c.standIns.server.SetCreateRoles(c.standIns.createRoles)
	return nil, nil
}

func (c *control) refuse(r *http.Request) (any, error) {
	state := r.FormValue("sqlstate")
	if len(state) != 5 {
		return nil, fmt.Errorf("sqlstate= must have five characters, such as 53300")
	}
	c.standIns.server.SetFault(aadpooltest.RefuseLogins(state, r.FormValue("message")))
	return nil, nil
}

func (c *control) set(r *http.Request) (any, error) {
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	settings := map[string]func(time.Duration){
		"token-life": c.standIns.entra.SetTokenLife,
		"token-age":  c.standIns.entra.SetTokenAge,
		"latency":    c.standIns.entra.SetLatency,
	}
	values := map[string]time.Duration{}
	for name := range r.Form {
		d, err := time.ParseDuration(r.Form.Get(name))
		if settings[name] == nil || err != nil {
			return nil, fmt.Errorf("want token-life=, token-age= or latency=, with a unit, such as 30s")
		}
		values[name] = d
	}
	for name, d := range values { // all of them or none
		settings[name](d)
	}
	return nil, nil
}

func (c *control) closeConnections(*http.Request) (any, error) {
	c.standIns.server.CloseConnections()
	return nil, nil
}

// registered is what a program needs to be the principal.
type registered struct {
	Name         string `json:"name"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret,omitempty"`
	ObjectID     string `json:"object_id"`
	TenantID     string `json:"tenant_id"`
}

func (c *control) register(r *http.Request) (any, error) {
	p := aadpooltest.Principal{Name: r.FormValue("name"), Administrator: r.FormValue("administrator") == "true"}
	if p.Name == "" {
		return nil, fmt.Errorf("want kind= and name=, such as kind=service&name=billing-api")
	}
	if err := setKind(&p.Kind, r.FormValue("kind")); err != nil {
		return nil, err
	}
	p = c.standIns.entra.Register(p)
	return registered{p.Name, p.ClientID, p.Secret, p.ObjectID, c.standIns.entra.TenantID()}, nil
}

func (c *control) revoke(r *http.Request) (any, error) {
	c.standIns.entra.Revoke(r.PathValue("name"))
	return nil, nil
}

func (c *control) stop() error {
	if c.server == nil { // it never served
		return c.listener.Close()
	}
	return c.server.Close()
}
