package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
)

// reloadOnHangup has p read its certificate and its password anew at SIGHUP, which otherwise would end the process, as
// PostgreSQL reads its files. What cannot be used is logged, and what was read before goes on. The function that it
// returns ends that.
func (cmd *proxyCommand) reloadOnHangup(p *proxy.Proxy, config proxy.Config) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var reloading sync.WaitGroup
	reloading.Go(func() {
		for range hangups {
			cmd.reload(p, config)
		}
	})
	return func() {
		signal.Stop(hangups)
		close(hangups)
		reloading.Wait()
	}
}

func (cmd *proxyCommand) reload(p *proxy.Proxy, config proxy.Config) {
	failed := func(err error) {
		config.Logger.Warn("SIGHUP: a file cannot be used; going on with what was read before", "error", err)
	}
	if config.Certificate != nil {
		if err := config.Certificate.Reload(); err != nil {
			failed(err)
		}
	}
	if cmd.PasswordFile != "" {
		if password, err := proxy.ReadPassword(cmd.PasswordFile); err != nil {
			failed(err)
		} else {
			p.SetPassword(password)
		}
	}
	config.Logger.Info("SIGHUP: read the certificate and the password anew")
}
