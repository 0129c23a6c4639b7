select webhook.may_manage($2, owner, owner_role) from webhook.subscription where id = $1 for no key update
