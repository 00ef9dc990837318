require "rails"
require "active_record/railtie"

module Orders
  class Application < Rails::Application
    config.load_defaults 6.1
    config.eager_load = false
    config.secret_key_base = "not a secret"
  end
end
