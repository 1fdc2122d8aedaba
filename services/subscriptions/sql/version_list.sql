SELECT version, document FROM subscription_version WHERE subscription = %s ORDER BY version
