SELECT document FROM subscription_version WHERE subscription = %s AND version = %s
