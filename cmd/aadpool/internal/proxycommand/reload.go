package proxycommand

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
)

// catchHangups has SIGHUP wait for reloadOn. Otherwise it would end the process. Several are one.
func catchHangups() chan os.Signal {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	return hangups
}

// reloadOn has p read its files anew at each SIGHUP, as PostgreSQL does. What cannot be used is logged, and what was
// read before goes on. The function that it returns ends that; a SIGHUP that comes after it is for nobody.
func (u *upstreams) reloadOn(hangups chan os.Signal, p *proxy.Proxy) (stop func()) {
	var reloading sync.WaitGroup
	ended := make(chan struct{})
	reloading.Go(func() {
		for {
			select {
			case <-hangups:
				u.reload(p)
			case <-ended:
				return
			}
		}
	})
	return func() {
		close(ended)
		reloading.Wait()
	}
}

func (u *upstreams) reload(p *proxy.Proxy) {
	for _, m := range u.current() {
		u.reloadFiles(p, m)
	}
	u.logger.Info("SIGHUP: read the certificate and the password anew")
	if u.cmd.Config != "" {
		u.reloadConfig(p)
	}
}

func (u *upstreams) reloadFiles(p *proxy.Proxy, m *madeUpstream) {
	logger := u.logger
	if m.name != "" {
		logger = logger.With("upstream", m.name)
	}
	failed := func(err error) {
		logger.Warn("SIGHUP: a file cannot be used; going on with what was read before", "error", err)
	}
	if m.upstream.Certificate != nil {
		if err := m.upstream.Certificate.Reload(); err != nil {
			failed(err)
		}
	}
	if m.passwordFile != "" {
		if password, err := proxy.ReadPassword(m.passwordFile); err != nil {
			failed(err)
		} else {
			p.SetPassword(m.upstream, password)
		}
	}
}

// reloadConfig has the servers be those of the file. What is about the whole proxy stays until it is restarted.
func (u *upstreams) reloadConfig(p *proxy.Proxy) {
	fresh, settings, err := u.cmd.commandLine.settings()
	var made []*madeUpstream
	if err == nil {
		made, err = u.make(settings)
	}
	if err == nil {
		err = p.Reload(served(made))
	}
	if err != nil {
		u.logger.Warn("SIGHUP: --config cannot be used; going on with the servers of before", "error", err)
		return
	}
	u.serve(made)
	u.serveTokens()
	if changed := u.cmd.changedFor(fresh); len(changed) > 0 {
		u.logger.Warn("SIGHUP: these settings change with the next start", "settings", changed)
	}
	u.logger.Info("SIGHUP: read the configuration file anew", "upstreams", len(settings))
}
