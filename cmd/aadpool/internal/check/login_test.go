package check

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestDescribeRole(t *testing.T) {
	for _, row := range []struct {
		name, role, token string
		outcome           report.Outcome
		want              string
	}{
		{"the token's own", "api", "api", "", `"api" is the name in the token`},
		{"another case", "API", "api", report.Warned, "case matters"},
		{"another name", "Readers", "ada@x", report.Warned, `right only if "Readers" is a group with ada@x as a member`},
		{"a token without a name", "api", "", report.Warned, "the token names nobody"},
		{"no user in the DSN", "", "ada@x", report.Warned, "the DSN names no user"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := describeRole(row.role, TokenFacts{Name: row.token}, row.role != "")
			assert.Equal(t, row.outcome, s.Outcome)
			assert.Contains(t, s.Text, row.want)
		})
	}
}

func TestRightsInWords(t *testing.T) {
	assert.Contains(t, describeRights("orders", "api", true, 5).Text, "with at most 5 connections")
	s := describeRights("orders", "api", false, -1)
	assert.Equal(t, report.Warned, s.Outcome)
	assert.Contains(t, s.Text, "no right to connect")
}

const azureHost = "orders.postgres.database.azure.com"

func TestAddressThatDoesNotAnswer(t *testing.T) {
	h := server.Host{Name: azureHost, Port: 5432}
	d := diagnosis.OfDial(h.Server(), []error{errors.New("192.0.2.1:5432: i/o timeout")})
	assert.Equal(t, diagnosis.Unreachable, d.Cause)
	assert.Contains(t, strings.Join(d.Fix, "\n"),
		`--resource-group "$(az postgres flexible-server list --query "[?name=='orders'].resourceGroup" -o tsv)" `+
			`--server-name orders --name allow-me`)
}

// Windows has an error of its own for a closed port, in words of its own.
func TestClosedPortOfWindows(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connectex", syscall.Errno(10061))}
	h := server.Host{Name: azureHost, Port: 5432}
	d := diagnosis.OfDial(h.Server(), []error{fmt.Errorf("192.0.2.1:5432: %w", shortNetworkError(refused))})
	assert.Equal(t, diagnosis.Refused, d.Cause)
}

func TestRoleOfSingleServerIsToldWithoutItsSuffix(t *testing.T) {
	azuretest.ClearPGEnv(t)
	target, _, err := server.ParseTarget("postgres://orders-api%40orders@"+azureHost+"/orders", "")
	require.NoError(t, err)
	c := New(Settings{}, tokens.Source{}, &report.Reporter{})
	c.target = target
	assert.Contains(t, c.describeDSN().Notes[0], "put user=orders-api into the DSN")
}
