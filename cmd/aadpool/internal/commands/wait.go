package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/internal/token"
)

// runningProxyFlags say which running proxy is asked.
type runningProxyFlags struct {
	HTTP string `name:"http" required:"" placeholder:"HOST:PORT" env:"AADPOOL_HTTP" help:"The --http of the proxy: an address, or the path of its Unix socket."`
}

// maxProxyAnswer is more than a proxy says of as many servers as there can be.
const maxProxyAnswer = 1 << 20

// get asks the proxy itself, whatever HTTP_PROXY says.
func (f runningProxyFlags) get(
	ctx context.Context, path string, query url.Values,
) (status int, body string, err error) {
	network, address := "unix", f.HTTP
	if !filepath.IsAbs(address) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return 0, "", exit.Usage("--http must be host:port, such as 127.0.0.1:9090, or the path of a Unix socket")
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() { // where the proxy listens, perhaps
			host = "localhost"
		}
		network, address = "tcp", net.JoinHostPort(host, port)
	}
	u := url.URL{Scheme: "http", Host: "localhost", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, "", err
	}
	transport := &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxProxyAnswer))
	return response.StatusCode, strings.TrimSpace(string(text)), err
}

// waitCommand is aadpool wait.
type waitCommand struct {
	runningProxyFlags
	Upstream string        `placeholder:"NAME" env:"AADPOOL_UPSTREAM" help:"The server that is to be ready, of several (default: one of them)."`
	Timeout  time.Duration `default:"1m" env:"AADPOOL_WAIT_TIMEOUT" help:"How long to wait at most (default: ${default})."`
}

// Help is shown by aadpool wait --help.
func (waitCommand) Help() string {
	return `For compose, init containers, and images that have no shell and no curl:

    aadpool wait --http 127.0.0.1:9090 --upstream orders --timeout 30s

It ends with 0 when the proxy has a token and reaches the server, and else says what is missing.`
}

// waitPause is between two questions.
const waitPause = 200 * time.Millisecond

func (cmd *waitCommand) Run(in invocation.Invocation) error {
	if cmd.Timeout <= 0 {
		return exit.Usage("--timeout must be more than 0, such as 30s")
	}
	query := url.Values{}
	if cmd.Upstream != "" {
		query.Set("upstream", cmd.Upstream)
	}
	ctx, cancel := context.WithTimeout(in.Ctx, cmd.Timeout)
	defer cancel()
	why := "no answer yet"
	for {
		status, body, err := cmd.get(ctx, "/readyz", query)
		wrong, isWrong := errors.AsType[exit.Error](err)
		switch {
		case isWrong:
			return wrong
		case err == nil && status == http.StatusOK:
			return nil
		case err == nil && status == http.StatusNotFound:
			return exit.Usage("--upstream: " + token.OneLine(body))
		case err == nil:
			why = token.OneLine(body)
		case ctx.Err() == nil: // or else it is that of the time that has run out
			why = terminal.WithoutPrefix(err)
		}
		select {
		case <-ctx.Done():
			return exit.Error{Status: diag.Network, Text: fmt.Sprintf("the proxy was not ready within %s: %s",
				cmd.Timeout, why)}
		case <-time.After(waitPause):
		}
	}
}

// statusCommand is aadpool proxy status, and aadpool status.
type statusCommand struct {
	runningProxyFlags
	JSON bool `name:"json" help:"Print JSON, as /status has it."`
}

// Help is shown by aadpool status --help.
func (statusCommand) Help() string {
	return `Asks a running proxy with --http for each of its servers: where it listens, how many sessions there are, when its token
ends, and why it is not ready. aadpool proxy status is the same.

    aadpool proxy status --http 127.0.0.1:9090`
}

func (cmd *statusCommand) Run(in invocation.Invocation) error {
	ctx, cancel := context.WithTimeout(in.Ctx, tokens.DefaultTimeout)
	defer cancel()
	status, body, err := cmd.get(ctx, "/status", nil)
	if _, isWrong := errors.AsType[exit.Error](err); isWrong {
		return err
	}
	var all []proxy.Status
	if err != nil {
		return exit.Error{Status: diag.Network, Text: "asking the proxy: " + terminal.WithoutPrefix(err)}
	}
	if err := json.Unmarshal([]byte(body), &all); err != nil || status != http.StatusOK {
		return exit.Error{Status: diag.Other, Text: "what answers at --http is no aadpool proxy, or an older one"}
	}
	if cmd.JSON {
		_, err := fmt.Fprintln(in.Stdout, body)
		return err
	}
	return printStatus(in.Stdout, all)
}

func printStatus(w io.Writer, all []proxy.Status) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "upstream\tserver\tlistening\tsessions\ttoken ends\tready")
	for _, s := range all {
		ends, ready := "–", "yes"
		if s.TokenEnds != nil {
			ends = s.TokenEnds.Local().Format("15:04:05")
		}
		if s.NotReady != "" {
			ready = "no: " + s.NotReady
		}
		name := s.Name
		if name == "" {
			name = "–"
		}
		line := fmt.Sprintf("%s\t%s\t%s\t%d\t%s\t%s", name, s.Server, strings.Join(s.Listening, ", "), s.Sessions,
			ends, ready)
		fmt.Fprintln(table, token.Redact(line))
	}
	return table.Flush()
}
