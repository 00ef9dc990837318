package aadpool_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestPrimaryAndReplicaShareOneToken(t *testing.T) {
	a := azuretest.New(t)
	replica, err := aadpooltest.NewServer(a.Authority, a.Postgres)
	require.NoError(t, err)
	defer replica.Close()
	hook, err := aadpool.NewHook(a.Credential(t))
	require.NoError(t, err)
	for _, dsn := range []string{a.DSN(), replica.DSN(a.App.Name)} {
		for _, newPool := range []poolMaker{azuretest.NewPool, azuretest.NewPoolOfConfigure} {
			assert.Equal(t, "orders-api", azuretest.Whoami(t, newPool(t, hook, dsn, nil)))
		}
	}
	assert.Equal(t, 1, a.Requests())
}

func TestDatabaseSQL(t *testing.T) {
	a := azuretest.New(t)
	t.Run("on the pool", func(t *testing.T) {
		pool, _ := newPool(t, a.DSN(), a.Credential(t), nil)
		db := stdlib.OpenDBFromPool(pool)
		defer db.Close()
		require.NoError(t, db.PingContext(t.Context()))
	})
	t.Run("without a pool of pgx's", func(t *testing.T) {
		hook, err := aadpool.NewHook(a.Credential(t))
		require.NoError(t, err)
		config, err := pgx.ParseConfig(a.DSN())
		require.NoError(t, err)
		db := stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(hook.BeforeConnect))
		defer db.Close()
		db.SetMaxIdleConns(0)
		for range 3 {
			require.NoError(t, db.PingContext(t.Context()))
		}
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.Raw(func(driverConn any) error { azuretest.Printed.Value(driverConn); return nil }))
		assert.Nil(t, config.OAuthTokenProvider, "the shallow copy's Fallbacks and TLS settings are its own")
		assert.Empty(t, config.Password)
	})
}

func TestSingleConnection(t *testing.T) {
	a := azuretest.New(t)
	hook, err := aadpool.NewHook(a.Credential(t))
	require.NoError(t, err)
	config, err := pgx.ParseConfig(a.DSN())
	require.NoError(t, err)
	require.NoError(t, hook.BeforeConnect(t.Context(), config))
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))

	_, err = conn.Exec(t.Context(), "listen orders; notify orders, 'new'")
	require.NoError(t, err)
	notification, err := conn.WaitForNotification(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "new", notification.Payload)

	t.Run("holds no token once it is up", func(t *testing.T) {
		assert.Empty(t, conn.Config().Password)
		assert.Empty(t, config.Password, "nor does the config that was passed to BeforeConnect")
		azuretest.Printed.Value(*conn.Config())
		azuretest.Printed.Value(*config)
		_, err := conn.Config().OAuthTokenProvider(t.Context())
		require.ErrorContains(t, err, "aadpool: this config has already served for a connection")
	})
	t.Run("nor does its config serve for another", func(t *testing.T) {
		for _, used := range []*pgx.ConnConfig{config, conn.Config()} {
			_, err := pgx.ConnectConfig(t.Context(), used)
			require.ErrorContains(t, err,
				"aadpool: this config has already served for a connection; for another, call Hook.BeforeConnect on a fresh copy")
		}
	})
}
