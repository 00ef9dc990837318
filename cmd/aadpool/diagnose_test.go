package main

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

func TestDescribeRole(t *testing.T) {
	for _, row := range []struct {
		name, role, token string
		outcome           outcome
		want              string
	}{
		{"the token's own", "api", "api", "", `"api" is the name in the token`},
		{"another case", "API", "api", warned, "case matters"},
		{"another name", "Readers", "ada@x", warned, `right only if "Readers" is a group with ada@x as a member`},
		{"a token without a name", "api", "", warned, "the token names nobody"},
		{"no user in the DSN", "", "ada@x", warned, "the DSN names no user"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := describeRole(row.role, tokenFacts{name: row.token}, row.role != "")
			assert.Equal(t, row.outcome, s.Outcome)
			assert.Contains(t, s.Text, row.want)
		})
	}
}

func TestConninfoValueReadsBackTheSame(t *testing.T) {
	for _, name := range append([]string{"plain"}, hostileNames...) {
		config, err := pgxpool.ParseConfig("host=h user=" + diag.ConninfoValue(name))
		require.NoError(t, err)
		assert.Equal(t, name, config.ConnConfig.User)
	}
}

func TestRightsInWords(t *testing.T) {
	assert.Contains(t, describeRights("orders", "api", true, 5).Text, "with at most 5 connections")
	s := describeRights("orders", "api", false, -1)
	assert.Equal(t, warned, s.Outcome)
	assert.Contains(t, s.Text, "no right to connect")
}
