SELECT month FROM month_state
